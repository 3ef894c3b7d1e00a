"""Chapter 4: recipes, the loop, the optimizer."""
