"""Creating a container: what it is going to be, and all of it or nothing."""
