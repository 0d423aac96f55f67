"""The commands that show something: containers, their output, what they use, what happens."""
