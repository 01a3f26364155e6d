// the page of a served bundle
