-- name: recurring-edges
-- asks: Which pairs of features are joined by an edge of one sign in graph after graph?
-- group: Edges
-- engine: duckdb
-- empty: No pair of features is joined with one sign in that many graphs; lower --min-graphs or --min-share.
-- parameter task (text; optional; example task): Only graphs of this task.
-- parameter concept (text; optional; example concept): Only graphs about this concept.
-- parameter set (set; optional; example set): Only this transcoder set.
-- parameter min_graphs (integer 1..; default 2): Fewest graphs in which the pair has the same sign.
-- parameter min_share (number 0..1; default 0): Only edges that carry at least this share of their target's input.
-- parameter limit (integer 1..; default 1000): Most rows wanted.
-- column source (text): Upstream feature, as layer/index.
-- column target (text): Downstream feature, as layer/index.
-- column sign (integer): 1 excites, -1 inhibits: the sign of the pair's summed weight in a graph.
-- column graphs (integer, graphs): Graphs in which the pair has this sign.
-- column opposed (integer, graphs): Graphs in which it has the other one.
-- column mean_share (number, share): Share of the target's input that one edge of the pair carries, averaged over
--   its edges in a graph, then over the graphs with this sign.
-- column max_share (number, share): The largest share of one edge.
-- column mean_weight (number, pre-activation): The pair's summed weight, averaged over those graphs.
-- column edges (integer): Edges of the pair in those graphs, over all positions.
-- column source_label (text; detail): Label of the source, if any.
-- column target_label (text; detail): Label of the target, if any.
-- column set (integer; detail): Ledger number of the transcoder set.

WITH asked AS (
    SELECT gid FROM graph
    WHERE ($task IS NULL OR task = $task)
      AND ($concept IS NULL OR concept = $concept)
      AND ($set IS NULL OR set_number = $set)
),
kept AS (SELECT n.nid, n.fid FROM node AS n JOIN asked USING (gid) WHERE n.kind = 'feature'),
pair AS (
    SELECT e.gid, s.fid AS source, t.fid AS target, e.weight, e.share
    FROM edge AS e
    JOIN asked USING (gid)
    JOIN kept AS s ON s.nid = e.source
    JOIN kept AS t ON t.nid = e.target
    WHERE e.share >= CAST($min_share AS REAL)
),
-- most pairs occur once: leaving them out first makes the rest three times as fast
often AS (SELECT source, target FROM pair GROUP BY source, target HAVING count(*) >= $min_graphs),
per_graph AS (
    SELECT gid, source, target,
           sum(CAST(weight AS DOUBLE)) AS weight, avg(share) AS share, max(share) AS most, count(*) AS edges
    FROM pair SEMI JOIN often USING (source, target)
    GROUP BY gid, source, target
),
signed AS (
    SELECT source, target, CAST(sign(weight) AS INTEGER) AS sign, count(*) AS graphs, avg(share) AS mean_share,
           max(most) AS max_share, avg(weight) AS mean_weight, sum(edges) AS edges
    FROM per_graph WHERE weight <> 0
    GROUP BY ALL
)
SELECT
    a.name AS source, b.name AS target, s.sign, s.graphs, coalesce(o.graphs, 0) AS opposed,
    s.mean_share, CAST(s.max_share AS DOUBLE) AS max_share, s.mean_weight, CAST(s.edges AS BIGINT) AS edges,
    a.label AS source_label, b.label AS target_label, a.set_number AS "set"
FROM signed AS s
LEFT JOIN signed AS o ON o.source = s.source AND o.target = s.target AND o.sign = -s.sign
JOIN feature AS a ON a.fid = s.source
JOIN feature AS b ON b.fid = s.target
WHERE s.graphs >= $min_graphs
ORDER BY s.graphs DESC, round(s.mean_share, 9) DESC, s.source, s.target, s.sign
LIMIT $limit
