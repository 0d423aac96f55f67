"""What tests and scripts share: no test, and no command of its own."""
