"""``selfnorm doctor``: looks at every part from outside, changes nothing, and says what is wrong and what to do."""
