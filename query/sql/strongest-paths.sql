-- name: strongest-paths
-- asks: Which chains of edges lead most strongly from an image patch or a token to the answer?
-- group: Paths
-- engine: neo4j
-- empty: No path of that many edges leads from there to the answer; raise --depth, try --start any, or another position.
-- parameter graph (graph; required; example image graph): The graph: its id, a unique prefix of it, or its slug.
-- parameter row (integer 0..; optional; example row): Only from this row of soft tokens.
-- parameter col (integer 0..; optional; example col): Only from this column of soft tokens.
-- parameter image (integer 0..; optional; example image): Only from this image of the prompt, from 0.
-- parameter position (integer 0..; optional; example position): Only from this position of the prompt.
-- parameter modality (one of image|text; optional; example modality of start): Only from image or only from text positions.
-- parameter start (one of input|any; default input): Begin at image patches and tokens, or at any node on those positions.
-- parameter depth (integer 1..12; default 6): Most edges in a path.
-- parameter floor (number 0..1; default 0.01): Leave out paths weaker than this part of the strongest.
-- parameter limit (integer 1..; default 20): Most rows wanted.
-- column strength (number, share): Product of the shares of its edges.
-- column sign (integer): 1 if it supports the answer, -1 if it speaks against it.
-- column edges (integer): Its length. One edge alone is the direct effect, through attention only: it may speak
--   against the answer while longer paths from the same place speak for it.
-- column from_position (integer; detail): Where it begins.
-- column row (integer; detail): Row of the soft token it begins at.
-- column col (integer; detail): Column of it.
-- column path (text): What it passes: soft tokens as image row,col; tokens in quotes; features as layer/index@position.
-- column nodes (texts; detail): Ids of its nodes, in order.
-- column weights (numbers; detail): The share of each edge, with its sign.

WITH RECURSIVE
answer AS (SELECT nid FROM node WHERE gid = $graph AND kind = 'logit' AND is_answer),
origin AS (
    SELECT n.nid FROM node AS n JOIN position AS p ON p.gid = n.gid AND p.position = n.position
    WHERE n.gid = $graph
      AND (n.kind IN ('image', 'token') OR ($start = 'any' AND n.kind IN ('feature', 'error')))
      AND ($row IS NULL OR p."row" = $row)
      AND ($col IS NULL OR p.col = $col)
      AND ($image IS NULL OR p.image = $image)
      AND ($position IS NULL OR p.position = $position)
      AND ($modality IS NULL OR p.modality = $modality)
),
hop AS MATERIALIZED (
    SELECT source, target, CAST(share AS DOUBLE) AS share, CAST(sign(weight) AS INTEGER) AS sign
    FROM edge WHERE gid = $graph AND share > 0
),
-- forwards: the strongest way from an origin to each node, by number of edges
ahead AS (
    SELECT nid, CAST(1 AS DOUBLE) AS strength, 0 AS edges FROM origin
    UNION ALL
    SELECT h.target, max(a.strength * h.share), a.edges + 1
    FROM ahead AS a JOIN hop AS h ON h.source = a.nid
    WHERE a.edges < $depth
    GROUP BY h.target, a.edges
),
-- the same with at most so many edges
bound AS MATERIALIZED (
    SELECT a.nid, r.edges, max(a.strength) AS strength
    FROM ahead AS a JOIN (SELECT unnest(range($depth + 1)) AS edges) AS r ON a.edges <= r.edges
    GROUP BY a.nid, r.edges
),
least_wanted AS MATERIALIZED (
    -- a hair less, since products in another order differ in the last digit
    SELECT max(b.strength) * $floor * (1 - 1e-9) AS strength FROM bound AS b SEMI JOIN answer USING (nid)
),
-- backwards from the answer. What a piece of path can still become is known, so of each length only as many pieces as
-- rows are wanted need be kept: a better piece left out would have been the end of a better path
walk AS (
    SELECT nid, CAST(1 AS DOUBLE) AS strength, 1 AS sign, 0 AS edges, [nid] AS nodes, CAST([] AS DOUBLE[]) AS shares
    FROM answer
    UNION ALL
    SELECT h.source, w.strength * h.share, w.sign * h.sign, w.edges + 1,
           list_prepend(h.source, w.nodes), list_prepend(h.share * h.sign, w.shares)
    FROM walk AS w
    JOIN hop AS h ON h.target = w.nid
    JOIN bound AS b ON b.nid = h.source AND b.edges = $depth - w.edges - 1
    CROSS JOIN least_wanted AS l
    WHERE w.strength * h.share * b.strength >= l.strength
    QUALIFY row_number() OVER (
        PARTITION BY w.edges ORDER BY w.strength * h.share * b.strength DESC, list_prepend(h.source, w.nodes)
    ) <= $limit
),
best AS (
    SELECT w.*, row_number() OVER (ORDER BY w.strength DESC, w.edges, w.nodes) AS place
    FROM walk AS w SEMI JOIN origin USING (nid) CROSS JOIN least_wanted AS l
    WHERE w.edges > 0 AND w.strength >= l.strength
    ORDER BY w.strength DESC, w.edges, w.nodes
    LIMIT $limit
),
stop AS (SELECT place, unnest(nodes) AS nid, unnest(range(len(nodes))) AS step FROM best),
named AS (
    SELECT s.place, s.step, n.kind || ':' || n.layer || '/' || n."index" || '@' || n.position AS node,
           CASE n.kind
               WHEN 'image' THEN 'image ' || CASE WHEN p.image > 0 THEN '#' || p.image || ' ' ELSE '' END
                                 || coalesce(p."row" || ',' || p.col, '@' || p.position)
               WHEN 'token' THEN '''' || coalesce(p.text, '') || '''@' || n.position
               WHEN 'error' THEN 'error ' || n.layer || '@' || n.position
               WHEN 'logit' THEN 'answer ''' || coalesce(n.text, '') || ''''
               ELSE n.layer || '/' || n."index" || '@' || n.position
           END AS name
    FROM stop AS s
    JOIN node AS n ON n.gid = $graph AND n.nid = s.nid
    JOIN position AS p ON p.gid = n.gid AND p.position = n.position
),
told AS (
    SELECT place, string_agg(name, ' -> ' ORDER BY step) AS path, list(node ORDER BY step) AS nodes
    FROM named GROUP BY place
)
SELECT
    b.strength, b.sign, b.edges, p.position AS from_position, p."row", p.col, t.path, t.nodes,
    b.shares AS weights
FROM best AS b
JOIN told AS t USING (place)
JOIN node AS n ON n.gid = $graph AND n.nid = b.nid
JOIN position AS p ON p.gid = n.gid AND p.position = n.position
ORDER BY b.place
