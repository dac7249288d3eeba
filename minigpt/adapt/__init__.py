"""Part III, Adaptation: one pretrained decoder, a small head, many tasks."""
