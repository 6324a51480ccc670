"""The experiments of the chapter on closed-form policy improvement."""
