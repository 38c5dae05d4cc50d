"""The coordinator: aggregates what hospitals send and never sees what they have."""
