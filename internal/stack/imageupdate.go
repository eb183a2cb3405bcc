package stack

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"github.com/berth-dev/berth/scaling/timetable"
)

// What x-berth.imageUpdate looks for.
const (
	updateDigest = "digest" // what the tag names now
	updatePatch  = "patch"  // the highest tag with the same major and minor number
	updateMinor  = "minor"  // the highest tag with the same major number
	updateNone   = "none"   // nothing
)

// imageUpdate reads x-berth.imageUpdate.
func (t *translator) imageUpdate(s *Service, c types.ServiceConfig, ext setting) error {
	if !ext.given() {
		return nil
	}
	schedule := ext.get("schedule")
	u := &ImageUpdate{Schedule: schedule.text(), Policy: cmp.Or(ext.get("policy").text(), updateDigest)}
	if schedule.given() {
		if err := checkCron(schedule); err != nil {
			return err
		}
	}
	if u.Policy == updateNone {
		return nil
	}
	if !schedule.given() {
		return ext.fail("does not say when; give a schedule: such as \"0 4 * * *\", each day at four")
	}
	if why := t.neverNewer(c, u.Policy); why != nil {
		return ext.fail("%w", why)
	}
	s.ImageUpdate = u
	return nil
}

// checkCron wants a cron expression. Whether it is one is for package timetable
// to say, which knows schedules of replicas only.
func checkCron(at setting) error {
	if len(at.text()) > maxCron {
		return at.fail("is longer than a cron expression can be")
	}
	replicas := 1
	_, errs := timetable.Parse([]timetable.Schedule{{Cron: at.text(), Replicas: &replicas}})
	for _, err := range errs {
		_, reason, _ := strings.Cut(err.Error(), ": ")
		return at.fail("%s", oneLine(reason))
	}
	return nil
}

// maxCron bounds the length of a cron expression, in bytes.
const maxCron = 256

// neverNewer says why no newer image can be found for a service.
func (t *translator) neverNewer(c types.ServiceConfig, policy string) error {
	switch {
	case c.Build != nil:
		return fmt.Errorf("the image is built here (%s), so no registry has a newer one; drop one of them", t.position("services", c.Name, "build"))
	case c.PullPolicy == types.PullPolicyNever:
		return fmt.Errorf("looks for a newer image, but pull_policy: never (%s) forbids to pull it; drop one of them", t.position("services", c.Name, "pull_policy"))
	}
	ref, err := reference.ParseAnyReference(c.Image)
	if err != nil {
		return fmt.Errorf("%q is no name that can be looked up in a registry", clip(c.Image))
	}
	if _, pinned := ref.(reference.Digested); pinned {
		return fmt.Errorf("the image is pinned by its digest (%s), so it never changes; drop one of them", t.position("services", c.Name, "image"))
	}
	tag := "latest"
	if tagged, ok := ref.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	switch {
	case policy == updatePatch && !matches(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+_.].*)?$`, tag):
		return fmt.Errorf("the policy patch counts up the third number of a tag such as 1.4.2, which %q has not", clip(tag))
	case policy == updateMinor && !matches(`^v?[0-9]+\.[0-9]+([-+_.].*)?$`, tag):
		return fmt.Errorf("the policy minor counts up the second number of a tag such as 1.4 or 1.4.2, which %q has not", clip(tag))
	}
	return nil
}
