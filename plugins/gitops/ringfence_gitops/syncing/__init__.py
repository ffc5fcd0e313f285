"""Following sources: what their repositories declare is applied, from time to time and when somebody asks."""
