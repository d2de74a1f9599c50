-- name: modality-by-layer
-- asks: Per layer, what share of the influence sits on image and on text positions?
-- group: Modality
-- engine: duckdb
-- empty: No graph fits these filters, or none says how influence is spread.
-- parameter graph (graph; optional; example image graph): One graph; all graphs if it is not given.
-- parameter task (text; optional; example task of image graph): Only graphs of this task.
-- parameter set (set; optional; example set of image graph): Only graphs of this transcoder set.
-- parameter limit (integer 1..; default 1000): Most rows wanted.
-- column layer (integer): The layer read from; -1 is the input: image patches and tokens.
-- column image (number, share): Influence on image positions, as a share of all that a graph keeps, averaged over graphs. Image and text
--   of all layers add up to 1.
-- column text (number, share): The same on text positions; image and text of all layers add up to 1.
-- column image_of_layer (number, share): Image positions' part of this layer's influence.
-- column errors (number, share): The part of image and text together that transcoders do not explain.
-- column image_features (number, nodes): Features kept on image positions, a graph on average.
-- column text_features (number, nodes): Features kept on text positions, a graph on average.
-- column graphs (integer, graphs): Graphs averaged over.
-- column set (integer; detail): Ledger number of their transcoder set.

WITH asked AS (
    SELECT gid, set_number FROM graph
    WHERE ($graph IS NULL OR gid = $graph)
      AND ($task IS NULL OR task = $task)
      AND ($set IS NULL OR set_number = $set)
),
weighed AS (
    SELECT n.gid, a.set_number, n.kind, n.layer, n.influence_share AS share, p.modality
    FROM node AS n
    JOIN asked AS a USING (gid)
    JOIN position AS p ON p.gid = n.gid AND p.position = n.position
    WHERE n.influence_share IS NOT NULL
),
counted AS (SELECT set_number, count(DISTINCT gid) AS graphs FROM weighed GROUP BY set_number),
by_layer AS (
    SELECT set_number, layer,
           coalesce(sum(share) FILTER (modality = 'image'), 0) AS image,
           coalesce(sum(share) FILTER (modality = 'text'), 0) AS text,
           coalesce(sum(share) FILTER (kind = 'error'), 0) AS errors,
           count(*) FILTER (kind = 'feature' AND modality = 'image') AS image_features,
           count(*) FILTER (kind = 'feature' AND modality = 'text') AS text_features
    FROM weighed
    GROUP BY set_number, layer
)
SELECT
    l.layer, l.image / c.graphs AS image, l.text / c.graphs AS text,
    l.image / nullif(l.image + l.text, 0) AS image_of_layer, l.errors / c.graphs AS errors,
    l.image_features / c.graphs AS image_features, l.text_features / c.graphs AS text_features,
    c.graphs, l.set_number AS "set"
FROM by_layer AS l
JOIN counted AS c USING (set_number)
ORDER BY l.set_number, l.layer
LIMIT $limit
