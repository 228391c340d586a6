"""Offline: what did a model learn, by how much, and what did it forget?"""
