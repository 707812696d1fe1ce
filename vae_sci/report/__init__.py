"""Figures and galleries: reads the files of the other rooms, computes nothing beyond drawing."""
