package stack

func (l *loading) validate(s *source) error { return nil }
