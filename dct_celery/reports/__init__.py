"""Folds over events and reports of a run: JUnit, JSON, terminal. Writers and screens, no decisions."""
