"""The training stages as LightningModules, their LightningDataModules, and what checkpoints need."""
