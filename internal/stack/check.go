package stack

import "github.com/compose-spec/compose-go/v2/types"

func (l *loading) check(p *types.Project) error { return nil }
