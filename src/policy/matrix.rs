pub fn matrix() {}
