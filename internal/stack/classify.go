package stack

func (l *loading) warnUnsupported(model map[string]any) {}
