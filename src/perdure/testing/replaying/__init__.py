"""Stored histories against other code: would it go on with what earlier code has begun?"""
