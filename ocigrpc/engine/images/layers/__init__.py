"""What containers write beside their images: measured, or counted and limited."""
