WITH done AS (
    SELECT e.eid, e.run, e.gid, g.task, e.source, e.flipped
    FROM evidence AS e JOIN graph AS g USING (gid)
    WHERE ($action IS NULL OR e.action = $action)
      AND ($mode IS NULL OR e.mode = $mode)
      AND ($task IS NULL OR g.task = $task)
),
-- a run that changed one thing only tells what that thing did
alone AS (
    SELECT e.run
    FROM evidence AS e LEFT JOIN node AS n ON n.gid = e.gid AND n.nid = e.source
    GROUP BY e.run
    HAVING count(DISTINCT n.fid) + count(DISTINCT e.source) FILTER (n.fid IS NULL) + count(DISTINCT e.sid) = 1
),
tried AS (
    SELECT n.fid, d.run, d.gid, d.task, bool_or(d.flipped) AS flipped, a.run IS NOT NULL AS alone,
           min(d.eid) AS eid
    FROM done AS d
    JOIN node AS n ON n.gid = d.gid AND n.nid = d.source
    LEFT JOIN alone AS a ON a.run = d.run
    WHERE n.kind = 'feature'
    GROUP BY ALL
),
counted AS (
    SELECT fid, count(DISTINCT gid) FILTER (flipped) AS graphs, count(DISTINCT task) FILTER (flipped) AS tasks,
           count(*) FILTER (flipped) AS flips, count(*) FILTER (flipped AND alone) AS alone,
           count(*) AS runs, count(DISTINCT gid) AS tried, min(eid) FILTER (flipped) AS first
    FROM tried GROUP BY fid
)
SELECT
    f.name AS feature, f.label, c.graphs, c.tasks, c.flips, c.alone, c.runs, c.tried, c.flips / c.runs AS rate,
    g.slug AS example, e.answer_before, e.answer_after, f.layer, f."index", f.set_number AS "set"
FROM counted AS c
JOIN feature AS f USING (fid)
JOIN evidence AS e ON e.eid = c.first
JOIN graph AS g ON g.gid = e.gid
WHERE c.graphs >= $min_graphs
ORDER BY c.graphs DESC, c.tasks DESC, round(rate, 9) DESC, f.fid
LIMIT $limit
