"""Generates models of avatars with the structure of Avaturn's exports."""
