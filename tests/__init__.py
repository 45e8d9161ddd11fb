"""Tests, in tiers by cost: see CONTRIBUTING.md."""
