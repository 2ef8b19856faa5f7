"""Compensation in words for the dropped tokens: caption model, LongCLIP and selector."""
