-- name: image-to-logit
-- asks: Which features carry image positions to the predicted logit in two hops?
-- group: Paths
-- engine: neo4j
-- empty: No feature of this graph joins an image position to the answer in two hops; strongest-paths looks further.
-- parameter graph (graph; required; example image graph): The graph: its id, a unique prefix of it, or its slug.
-- parameter at (one of image|text; optional; example carrier): Only features that fire on image or on text positions.
-- parameter limit (integer 1..; default 1000): Most rows wanted.
-- column feature (text): The feature that carries, as layer/index.
-- column label (text): Its label, if any.
-- column position (integer): Where it fires.
-- column token (text): The token there.
-- column modality (text): image or text.
-- column carried (number, share): Sum over image sources of share(source -> feature) x share(feature -> logit).
-- column net (number, share): The same with the signs of the two edges: positive supports the answer.
-- column to_logit (number, share): Share of the logit's input that comes from this feature.
-- column from_image (number, share): Share of this feature's input that comes from image positions.
-- column image (integer): Ordinal of the image that gives most.
-- column row (integer): Row of the soft token that gives most.
-- column col (integer): Its column.
-- column strongest (number, share): What that soft token gives, of carried.
-- column cells (integer): How many soft tokens give.
-- column answer (text; detail): The predicted token.
-- column node (text; detail): Id of the carrying node.

WITH answer AS (SELECT nid, text FROM node WHERE gid = $graph AND kind = 'logit' AND is_answer),
carrier AS (
    SELECT n.nid, n.fid, n.layer, n."index", n.position, a.text AS answer,
           CAST(e.share AS DOUBLE) AS share, sign(e.weight) AS sign
    FROM edge AS e
    JOIN answer AS a ON a.nid = e.target
    JOIN node AS n ON n.gid = e.gid AND n.nid = e.source
    WHERE e.gid = $graph AND n.kind = 'feature'
),
-- what an image position gives: its soft token, the features on it, and what the transcoder missed there
cell AS (
    SELECT c.nid, p.position, p.image, p."row", p.col,
           sum(e.share * c.share) AS product,
           sum(e.share * c.share * sign(e.weight) * c.sign) AS net,
           sum(CAST(e.share AS DOUBLE)) AS share
    FROM edge AS e
    JOIN carrier AS c ON c.nid = e.target
    JOIN node AS s ON s.gid = e.gid AND s.nid = e.source
    JOIN position AS p ON p.gid = s.gid AND p.position = s.position
    WHERE e.gid = $graph AND p.modality = 'image' AND s.kind IN ('image', 'feature', 'error')
    GROUP BY ALL
),
gathered AS (
    SELECT nid, sum(product) AS carried, sum(net) AS net, sum(share) AS from_image, count(*) AS cells,
           first({'image': image, 'row': "row", 'col': col, 'product': product} ORDER BY product DESC, position) AS best
    FROM cell GROUP BY nid
)
SELECT
    f.name AS feature, f.label, c.position, p.text AS token, p.modality,
    g.carried, g.net, c.share AS to_logit, g.from_image,
    g.best.image AS image, g.best."row" AS "row", g.best.col AS col, g.best.product AS strongest, g.cells,
    c.answer, 'feature:' || c.layer || '/' || c."index" || '@' || c.position AS node
FROM gathered AS g
JOIN carrier AS c USING (nid)
JOIN feature AS f ON f.fid = c.fid
JOIN position AS p ON p.gid = $graph AND p.position = c.position
WHERE $at IS NULL OR p.modality = $at
ORDER BY round(g.carried, 12) DESC, c.nid
LIMIT $limit
