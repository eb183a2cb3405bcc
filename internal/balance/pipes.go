package balance

type pipes struct{}

func newPipes() pipes   { return pipes{} }
func (p *pipes) close() {}
