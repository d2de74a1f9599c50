-- name: shared-features
-- asks: Which features do two graphs have in common, and how much does each matter in both?
-- group: Graphs
-- engine: neo4j
-- empty: The two graphs keep no feature in common.
-- parameter a (graph; required; example graph): One graph: its id, a unique prefix of it, or its slug.
-- parameter b (graph; required; example other graph): The other one.
-- parameter unlike (boolean; default false): Compare although sets, conventions, precisions or thresholds differ.
-- parameter limit (integer 1..; default 10000): Most rows wanted.
-- column feature (text): The feature, as layer/index.
-- column label (text): Its label, if any.
-- column share_a (number, share): Its share of the influence kept in a.
-- column share_b (number, share): Its share of the influence kept in b.
-- column influence_a (number, raw): Its influence in a, summed over positions; missing in imported graphs.
-- column influence_b (number, raw): Its influence in b.
-- column activation_a (number): Its strongest activation in a.
-- column activation_b (number): Its strongest activation in b.
-- column positions_a (numbers; detail): Where it is kept in a.
-- column positions_b (numbers; detail): Where it is kept in b.
-- column image_share (number, share): Share of its occurrences in the two that lie on image positions.
-- column layer (integer; detail): Its layer.
-- column index (integer; detail): Its index.

WITH asked AS (
    SELECT gid FROM graph
    WHERE gid IN ($a, $b) AND ($unlike OR set_number = (SELECT set_number FROM graph WHERE gid = $a))
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
    SELECT n.gid, n.fid, n.kind, n.position, n.influence, n.activation, coalesce(n.influence, s.share, 0) AS weight
    FROM node AS n JOIN asked USING (gid) LEFT JOIN step AS s USING (nid)
    WHERE n.kind NOT IN ('logit', 'bias')
),
whole AS (SELECT gid, sum(weight) AS weight FROM weighed GROUP BY gid),
held AS (
    SELECT w.gid, w.fid,
           sum(w.weight) / nullif(any_value(t.weight), 0) AS share,
           sum(w.influence) AS influence, CAST(max(w.activation) AS DOUBLE) AS activation,
           list(w.position ORDER BY w.position) AS positions,
           count(*) AS occurrences, count(*) FILTER (p.modality = 'image') AS on_image
    FROM weighed AS w
    JOIN whole AS t ON t.gid = w.gid
    JOIN position AS p ON p.gid = w.gid AND p.position = w.position
    WHERE w.kind = 'feature'
    GROUP BY w.gid, w.fid
)
SELECT
    f.name AS feature, f.label,
    a.share AS share_a, b.share AS share_b, a.influence AS influence_a, b.influence AS influence_b,
    a.activation AS activation_a, b.activation AS activation_b, a.positions AS positions_a, b.positions AS positions_b,
    (a.on_image + b.on_image) / (a.occurrences + b.occurrences) AS image_share,
    f.layer, f."index"
FROM held AS a
JOIN held AS b ON b.fid = a.fid AND b.gid = $b
JOIN feature AS f ON f.fid = a.fid
WHERE a.gid = $a
ORDER BY round(least(a.share, b.share), 9) DESC NULLS LAST, f.layer, f."index"
LIMIT $limit
