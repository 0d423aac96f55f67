"""Commands that run programs: run, create, exec, attach, and update of their limits."""
