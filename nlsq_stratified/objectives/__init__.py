"""What is minimised: curves, correlated and local residuals, robust losses."""
