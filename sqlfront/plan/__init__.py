"""Plans: relational nodes over typed expressions, the rules that rewrite them, and the choice of access paths."""
