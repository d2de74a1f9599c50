// name: flipping-features
// asks: Which features flip the answer when they are changed, and in how many graphs and tasks?
// group: Interventions
// engine: duckdb
// empty: No intervention on a feature flipped an answer under these filters, or none was made.
// parameter action (one of ablate|scale|set|add|copy; optional): Only interventions of this kind.
// parameter mode (one of frozen|iterative|free; optional): Only interventions of this mode.
// parameter task (text; optional): Only graphs of this task.
// parameter min_graphs (integer 1..; default 1): Fewest graphs whose answer it flips.
// parameter limit (integer 1..; default 1000): Most rows wanted.
// column feature (text): The feature, as layer/index.
// column label (text): Its label, if any.
// column graphs (integer, graphs): Graphs whose answer became another one.
// column tasks (integer): Tasks these graphs are of.
// column flips (integer, runs): Runs that flipped the answer.
// column alone (integer, runs): Those in which nothing else was changed.
// column runs (integer, runs): Runs that changed it.
// column tried (integer, graphs): Graphs in which it was changed.
// column rate (number, share): flips / runs.
// column example (text): The graph of the first flip.
// column answer_before (text): What the model said there before.
// column answer_after (text): What it said after.
// column layer (integer; detail): Its layer.
// column index (integer; detail): Its index.
// column set (integer; detail): Ledger number of its transcoder set.

MATCH (v:Evidence)
OPTIONAL MATCH (v)-[:OF_SOURCE]->(n:Node)
OPTIONAL MATCH (n)-[:OF]->(f:Feature)
// a run that changed one thing only tells what that thing did
WITH v.run AS run, collect({v: v, f: f}) AS rows,
     count(DISTINCT f) + count(DISTINCT CASE WHEN f IS NULL THEN n END) + count(DISTINCT v.sid) = 1 AS alone
UNWIND rows AS row
WITH run, alone, row.v AS v, row.f AS f
WHERE f IS NOT NULL AND ($action IS NULL OR v.action = $action) AND ($mode IS NULL OR v.mode = $mode)
MATCH (v)-[:EVIDENCE_OF]->(g:Graph)
WHERE $task IS NULL OR g.task = $task
WITH f, g, run, alone, max(CASE WHEN v.flipped THEN 1 ELSE 0 END) = 1 AS flipped, min(v.eid) AS eid
WITH f, count(DISTINCT CASE WHEN flipped THEN g END) AS graphs,
     count(DISTINCT CASE WHEN flipped THEN g.task END) AS tasks,
     count(CASE WHEN flipped THEN 1 END) AS flips, count(CASE WHEN flipped AND alone THEN 1 END) AS alone,
     count(*) AS runs, count(DISTINCT g) AS tried, min(CASE WHEN flipped THEN eid END) AS first
WHERE graphs >= $min_graphs
MATCH (v:Evidence {eid: first})-[:EVIDENCE_OF]->(g:Graph)
RETURN
    f.name AS feature, f.label AS label, graphs, tasks, flips, alone, runs, tried, toFloat(flips) / runs AS rate,
    g.slug AS example, v.answer_before AS answer_before, v.answer_after AS answer_after,
    f.layer AS layer, f.index AS index, f.set_number AS set
ORDER BY graphs DESC, tasks DESC, round(rate, 9) DESC, f.fid
LIMIT $limit
