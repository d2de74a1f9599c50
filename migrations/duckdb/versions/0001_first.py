"""The first schema: everything.

Written by hand and never edited once released; atlas/stores/schema.py says what each column means.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INT16, INT32, INT64 = sa.SmallInteger, sa.Integer, sa.BigInteger
REAL, DOUBLE, BOOL, TEXT, BLOB = sa.REAL, sa.Double, sa.Boolean, sa.String, sa.LargeBinary


def key(name: str, type: Any) -> sa.Column[Any]:
    return sa.Column(name, type, primary_key=True, nullable=False, autoincrement=False)


def must(name: str, type: Any) -> sa.Column[Any]:
    return sa.Column(name, type, nullable=False, autoincrement=False)


def maybe(name: str, type: Any) -> sa.Column[Any]:
    return sa.Column(name, type, nullable=True, autoincrement=False)


def upgrade() -> None:
    create_graph()
    create_shared()
    create_rows()


def downgrade() -> None:
    for table in (
        "activation",
        "edge",
        "failure",
        "feature",
        "feature_set",
        "graph",
        "graph_image",
        "heat_map",
        "image",
        "near_duplicate",
        "node",
        "position",
        "projection",
        "thumbnail",
    ):
        op.drop_table(table)


def create_graph() -> None:
    """One row per graph."""
    op.create_table(
        "graph",
        key("gid", INT64),
        must("id", TEXT),
        must("slug", TEXT),
        must("model", TEXT),
        must("transcoders", TEXT),
        must("set_number", INT32),
        maybe("width", INT32),
        must("source", TEXT),
        must("prompt", TEXT),
        must("answer", TEXT),
        maybe("expected", TEXT),
        maybe("correct", BOOL),
        maybe("task", TEXT),
        maybe("concept", TEXT),
        maybe("pair", TEXT),
        maybe("extra", TEXT),
        must("n_layers", INT32),
        must("n_positions", INT32),
        must("n_nodes", INT32),
        must("n_edges", INT32),
        maybe("n_active", INT32),
        must("partial", BOOL),
        maybe("convention", TEXT),
        maybe("precision", TEXT),
        maybe("node_threshold", DOUBLE),
        maybe("edge_threshold", DOUBLE),
        maybe("replacement", DOUBLE),
        maybe("completeness", DOUBLE),
        maybe("bias_share", DOUBLE),
        maybe("error_share", DOUBLE),
        maybe("logit_mass", DOUBLE),
        maybe("worst_residue", DOUBLE),
        must("identity", TEXT),
        must("provenance", TEXT),
    )


def create_shared() -> None:
    """Things that several graphs share, and the books."""
    op.create_table(
        "failure",
        key("number", INT64),
        must("time", TEXT),
        must("job", TEXT),
        must("source", TEXT),
        maybe("prompt", TEXT),
        must("reason", TEXT),
    )
    op.create_table(
        "feature",
        key("fid", INT64),
        must("set_number", INT32),
        must("layer", INT16),
        must("index", INT64),
        must("name", TEXT),
        maybe("label", TEXT),
    )
    op.create_table(
        "feature_set",
        key("set_number", INT32),
        must("transcoders", TEXT),
        must("model", TEXT),
    )
    op.create_table(
        "image",
        key("sha", TEXT),
        must("width", INT32),
        must("height", INT32),
        maybe("thumbnail", TEXT),
    )
    op.create_table(
        "near_duplicate",
        key("fid_a", INT64),
        key("fid_b", INT64),
        must("cosine", REAL),
        must("threshold", REAL),
    )
    op.create_table(
        "projection",
        key("gid", INT64),
        key("store", TEXT),
        must("id", TEXT),
        must("checksum", TEXT),
    )
    op.create_table(
        "thumbnail",
        key("sha", TEXT),
        must("media_type", TEXT),
        must("width", INT32),
        must("height", INT32),
        must("data", BLOB),
    )


def create_rows() -> None:
    """Rows that belong to one graph."""
    op.create_table(
        "activation",
        must("gid", INT64),
        must("fid", INT64),
        must("position", INT32),
        must("activation", REAL),
    )
    op.create_table(
        "edge",
        must("gid", INT64),
        must("source", INT64),
        must("target", INT64),
        must("weight", REAL),
        must("share", REAL),
    )
    op.create_table(
        "graph_image",
        must("gid", INT64),
        must("image", INT32),
        must("sha", TEXT),
        must("name", TEXT),
        maybe("thumbnail", TEXT),
    )
    op.create_table(
        "heat_map",
        must("gid", INT64),
        must("position", INT32),
        must("name", TEXT),
        must("height", INT32),
        must("width", INT32),
        must("values", BLOB),
        maybe("thumbnail", TEXT),
    )
    op.create_table(
        "node",
        must("nid", INT64),
        must("gid", INT64),
        maybe("fid", INT64),
        must("kind", TEXT),
        must("layer", INT16),
        must("index", INT64),
        must("position", INT32),
        maybe("text", TEXT),
        maybe("label", TEXT),
        maybe("activation", REAL),
        maybe("own_bias", DOUBLE),
        maybe("pre_activation", DOUBLE),
        maybe("influence", DOUBLE),
        maybe("cumulative", DOUBLE),
        maybe("incoming_abs", DOUBLE),
        maybe("tail_sum", DOUBLE),
        maybe("tail_abs", DOUBLE),
        maybe("residue", DOUBLE),
        maybe("probability", DOUBLE),
        must("is_answer", BOOL),
        maybe("original_id", TEXT),
        maybe("extra", TEXT),
        maybe("influence_share", DOUBLE),
    )
    op.create_table(
        "position",
        must("gid", INT64),
        must("position", INT32),
        maybe("token_id", INT64),
        must("text", TEXT),
        must("modality", TEXT),
        maybe("image", INT32),
        maybe("crop", INT32),
        maybe("row", INT32),
        maybe("col", INT32),
        maybe("image_sha", TEXT),
    )
