package daemon

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling/timetable"
)

// NewerImage names the image that a service's image is to be followed by, by a
// policy of x-berth.imageUpdate: the same one for "digest", one with a higher
// version as its tag for "patch" and "minor".
type NewerImage func(ctx context.Context, image, policy string) (string, error)

// imageLook is how often it is looked whether an image update is due; schedules
// are to the minute.
const imageLook = 30 * time.Second

// updateImages looks for newer images when their schedules say so, until ctx ends.
func (d *Daemon) updateImages(ctx context.Context) {
	ticker := time.NewTicker(imageLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if d.health.away() != nil {
			continue
		}
		for _, l := range d.all() {
			for _, service := range l.dueImages(time.Now()) {
				l.updateImage(ctx, service)
			}
		}
	}
}

// dueImages are the services whose image is to be looked for now: their schedule
// fired after the last look. What was missed more than once is done once.
func (l *loop) dueImages(now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.record.Desired
	if d == nil || d.Stack == nil || d.Down != nil || d.Lost {
		return nil
	}
	var due []string
	for i := range d.Stack.Services {
		svc := &d.Stack.Services[i]
		if svc.ImageUpdate == nil || d.Services[svc.Name].Want != reconcile.WantRunning {
			continue
		}
		one := 1
		table, errs := timetable.Parse([]timetable.Schedule{{Cron: svc.ImageUpdate.Schedule, Replicas: &one}})
		if len(errs) > 0 {
			continue // it was checked when it was loaded
		}
		last, known := l.record.ImageLooks[svc.Name]
		if !known || last.After(now) {
			l.lookedLocked(svc.Name, now) // the first look is at the schedule's next time
			continue
		}
		if fired, ok := table.Active(now); ok && fired.At.After(last) {
			l.lookedLocked(svc.Name, now)
			due = append(due, svc.Name)
		}
	}
	return due
}

// lookedLocked notes when a service's image was looked for; l.mu is held.
func (l *loop) lookedLocked(service string, now time.Time) {
	l.record.ImageLooks = maps.Clone(l.record.ImageLooks)
	if l.record.ImageLooks == nil {
		l.record.ImageLooks = map[string]time.Time{}
	}
	l.record.ImageLooks[service], l.unsaved = now, true
	l.saveIfDueLocked()
}

// imageTime bounds how long the search for, and the pull of, one image takes.
const imageTime = 10 * time.Minute

// updateImage pulls the image that follows a service's, and has it rolled out
// where it is another one.
func (l *loop) updateImage(ctx context.Context, service string) {
	ctx, cancel := context.WithTimeout(ctx, imageTime)
	defer cancel()
	svc := l.desired().Stack.Service(service)
	log := l.log.With().Str("service", service).Logger()
	if svc == nil || svc.ImageUpdate == nil {
		return
	}
	ref := svc.Spec.Image
	if newer := l.d.cfg.NewerImage; newer != nil {
		var err error
		if ref, err = newer(ctx, svc.Spec.Image, svc.ImageUpdate.Policy); err != nil {
			log.Warn().Err(err).Msg("no newer image could be looked for")
			return
		}
	}
	pull := reconcile.Step{Op: reconcile.OpPull, Key: reconcile.Key("image/" + ref), Name: ref, Cause: "x-berth.imageUpdate"}
	if _, err := l.execute(ctx, pull); err != nil {
		log.Warn().Err(err).Str("image", ref).Msg("the newer image cannot be pulled")
		return
	}
	img, err := l.d.cfg.Engine.Image(ctx, ref)
	if err != nil {
		log.Warn().Err(err).Str("image", ref).Msg("the newer image cannot be looked at")
		return
	}
	if err := l.rollOutImage(svc, ref, img.ID); err != nil {
		log.Error().Err(err).Msg("the newer image cannot be rolled out")
	}
}

// rollOutImage pins another image for a service, which starts a rollout.
func (l *loop) rollOutImage(svc *stack.Service, ref, id string) error {
	why := cause(fmt.Sprintf("newer image of %s: %s", svc.Name, ref))
	changed := true
	_, err := l.edit(func(w *reconcile.Desired) (*reconcile.Desired, error) {
		now := w.Stack.Service(svc.Name)
		st := w.Services[svc.Name]
		if now == nil || st.ImageID == id || now.Revision != svc.Revision {
			changed = false
			return w, nil
		}
		next := *w
		next.Services = maps.Clone(w.Services)
		st.Base = base(now, st, now, id)
		st.ImageID, st.ImageRef = id, ""
		if ref != now.Spec.Image {
			st.ImageRef = ref
		}
		next.Services[svc.Name] = st
		return &next, nil
	}, &why)
	if changed && err == nil {
		l.log.Info().Str("service", svc.Name).Str("image", ref).Msg("a newer image is rolled out")
	}
	return err
}
