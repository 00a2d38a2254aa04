"""The controllers: API clients that bring what is there nearer to what is asked for."""
