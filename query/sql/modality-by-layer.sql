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
-- column image (number, share): Influence on image positions, as a share of all that a graph keeps, averaged over graphs.
-- column text (number, share): The same on text positions.
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
step AS (
    SELECT nid, min(rise) OVER (PARTITION BY gid ORDER BY cumulative, nid) AS share FROM (
        SELECT n.gid, n.nid, n.cumulative,
               n.cumulative - lag(n.cumulative, 1, 0.0) OVER (PARTITION BY n.gid ORDER BY n.cumulative, n.nid) AS rise
        FROM node AS n JOIN asked USING (gid)
        WHERE n.influence IS NULL AND n.cumulative IS NOT NULL AND n.kind NOT IN ('logit', 'bias')
    )
),
weighed AS (
    SELECT n.gid, a.set_number, n.kind, n.layer, n.position, coalesce(n.influence, s.share, 0) AS weight
    FROM node AS n JOIN asked AS a USING (gid) LEFT JOIN step AS s USING (nid)
    WHERE n.kind NOT IN ('logit', 'bias')
),
whole AS (SELECT gid, set_number, sum(weight) AS weight FROM weighed GROUP BY ALL HAVING sum(weight) > 0),
counted AS (SELECT set_number, count(*) AS graphs FROM whole GROUP BY set_number),
by_layer AS (
    SELECT w.set_number, w.layer,
           coalesce(sum(w.weight / t.weight) FILTER (p.modality = 'image'), 0) AS image,
           coalesce(sum(w.weight / t.weight) FILTER (p.modality = 'text'), 0) AS text,
           coalesce(sum(w.weight / t.weight) FILTER (w.kind = 'error'), 0) AS errors,
           count(*) FILTER (w.kind = 'feature' AND p.modality = 'image') AS image_features,
           count(*) FILTER (w.kind = 'feature' AND p.modality = 'text') AS text_features
    FROM weighed AS w
    JOIN whole AS t ON t.gid = w.gid
    JOIN position AS p ON p.gid = w.gid AND p.position = w.position
    GROUP BY w.set_number, w.layer
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
