"""Analyses of a run, `aem-train analyse …`: what the paper shows of AEM, measured on a run of one's own. See
`docs/analyses.md`."""
