"""One use case per arrow of the flow, and one per operator's action. Steps never import each other: they meet in the
database."""
