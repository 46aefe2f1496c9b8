"""Programs that measure the SDK beside what a user would write by hand; ``python -m benchmarks`` runs them all."""
