"""The linter of policy manifests: what is wrong with them before anybody applies them, with file and line."""
