"""What simulated clients do, each with the checker of what they may see."""
