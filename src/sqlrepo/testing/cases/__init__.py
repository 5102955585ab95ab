"""The contract's cases, one module for each section of `docs/contract.md`."""
