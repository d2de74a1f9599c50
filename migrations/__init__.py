"""Migrations of the stores: alembic revisions for DuckDB, numbered Cypher files for Neo4j."""
