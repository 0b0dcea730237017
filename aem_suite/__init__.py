"""The commands `aem-envs`, `aem-data`, `aem-eval`, `aem-train`; loads the standard library only, until one is to act."""
