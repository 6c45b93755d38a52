"""The posterior of a fit: its density, how it is sampled, and what the draws say."""
