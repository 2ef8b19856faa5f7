"""Giving back in words what the dropped tokens said: caption model, LongCLIP, selector."""
