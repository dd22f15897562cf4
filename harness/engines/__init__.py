"""How a trial is trained: plain, behind a cut, or packed with others. Training is handed its engine."""
