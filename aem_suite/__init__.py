"""The commands `aem-envs`, `aem-data`, `aem-eval` and `aem-train`: standard library only, until one is to act."""
