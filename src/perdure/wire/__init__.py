"""AWS JSON and the model: one table of shapes, read in both directions. No decisions are made here."""
