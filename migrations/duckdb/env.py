"""alembic's entry: runs revisions on the connection that atlas/stores/migrate.py hands over, in its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
