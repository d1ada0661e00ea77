"""What runs beside each other: results of batches."""
