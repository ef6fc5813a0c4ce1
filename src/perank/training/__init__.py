"""The training stages as LightningModules, their LightningDataModules, and checkpoint files."""
