"""Groups of features that count as one: suggested, drawn as a graph of their own, and scored. Needs no model."""
